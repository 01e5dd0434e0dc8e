"""Who writes and who draws: chosen by the run's parameters, with keys that only the settings know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from django.conf import settings

from automation.contrib.content.providers.base import (
    Article,
    Brief,
    Idea,
    ImageProvider,
    Picture,
    ProviderError,
    Section,
    TextProvider,
)
from automation.contrib.content.providers.offline import OfflineText
from automation.errors import InvalidParams
from automation.pipeline.context import StageContext

if TYPE_CHECKING:
    from automation.contrib.content.providers.endpoint import Endpoint

__all__ = [
    "OPENAI",
    "Article",
    "Brief",
    "Idea",
    "ImageProvider",
    "Picture",
    "ProviderError",
    "Section",
    "TextProvider",
    "TextStage",
    "check_params",
    "image_provider",
    "text_provider",
]


OPENAI = "openai"
"""The provider, and the resource that its stages use, whatever address it is called at."""


class TextStage:
    """Mixin of a stage that writes: one provider, with its open connections, for the life of the loop."""

    uses: ClassVar[tuple[str, ...]] = (OPENAI,)
    _text: TextProvider | None = None

    @classmethod
    def uses_with(cls, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The offline writer uses nothing outside."""
        return cls.uses if params.get("provider") == OPENAI else ()

    def text(self, ctx: StageContext) -> TextProvider:
        if self._text is None:
            self._text = text_provider(ctx.params)
        return self._text


def text_provider(params: Mapping[str, Any]) -> TextProvider:
    """The provider of texts that ``params`` ask for."""
    if params["provider"] == "openai":
        # Here, as in those below: most processes ask no endpoint and draw nothing, and both are slow to import.
        from automation.contrib.content.providers.openai import OpenAIText

        return OpenAIText(_endpoint(params), model=params["model"], is_chat=params["api"] == "chat")
    return OfflineText()


def image_provider(params: Mapping[str, Any]) -> ImageProvider:
    """The provider of pictures that ``params`` ask for."""
    if params["image_provider"] == "openai":
        from automation.contrib.content.providers.openai import OpenAIImages

        return OpenAIImages(_endpoint(params), model=params["image_model"])
    from automation.contrib.content.providers.drawing import OfflineImages

    return OfflineImages()


def _endpoint(params: Mapping[str, Any]) -> Endpoint:
    """Where the ``openai`` providers call. The key goes only to the address that the settings name for it."""
    from automation.contrib.content.providers.endpoint import Endpoint

    url, configured = _address(params), _configured()
    key = str(getattr(settings, "TEXT_PROVIDER_API_KEY", "") or "")
    return Endpoint(url, key if url.rstrip("/") == configured.rstrip("/") else "", timeout_seconds=params["timeout"])


def check_params(params: Mapping[str, Any]) -> None:
    """Raise ``InvalidParams`` if the chosen provider cannot be asked at all, or is none that a run may name."""
    if "openai" not in (params["provider"], params["image_provider"]):
        return
    url = _address(params)
    try:
        parts = urlsplit(url)
        host, place = parts.hostname, f"{parts.hostname}:{parts.port}"
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise InvalidParams(
            "Cannot use provider openai: expected parameter base_url or setting TEXT_PROVIDER_BASE_URL"
            f" to be an http(s) address, got: {url!r}."
        )
    allowed = [str(name).lower() for name in getattr(settings, "TEXT_PROVIDER_HOSTS", ())]
    if url.rstrip("/") != _configured().rstrip("/") and host not in allowed and place not in allowed:
        raise InvalidParams(
            f"Cannot let the workers call base_url {url!r}: its host is not among those of the setting"
            f" TEXT_PROVIDER_HOSTS ({', '.join(allowed) or 'none'}). Without base_url they call TEXT_PROVIDER_BASE_URL."
        )


def _configured() -> str:
    return str(getattr(settings, "TEXT_PROVIDER_BASE_URL", "") or "")


def _address(params: Mapping[str, Any]) -> str:
    return str(params["base_url"] or _configured())
