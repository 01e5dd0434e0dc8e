"""For production servers: the environment must set everything that matters."""

from backend.settings import environment as env
from backend.settings.base import *
from backend.settings.base import BASE_DIR, STORAGES

SECRET_KEY = env.required("SECRET_KEY")
ALLOWED_HOSTS = [*env.words("ALLOWED_HOSTS", env.required("ALLOWED_HOSTS")), "localhost"]  # for health checks
env.required("DATABASE_URL")
env.required("REDIS_URL")

#: Send cookies over HTTPS (or to `localhost`) only.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.switch("SECURE_COOKIES", True)
#: Redirect HTTP to HTTPS.
SECURE_SSL_REDIRECT = env.switch("SECURE_SSL_REDIRECT", False)
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
#: Value of `Strict-Transport-Security`; 0 sends none.
SECURE_HSTS_SECONDS = env.number("SECURE_HSTS_SECONDS", 0)
#: A proxy ends TLS and sets `X-Forwarded-Proto`.
if env.switch("BEHIND_TLS_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

#: Where `collectstatic` puts static files. The image sets it.
STATIC_ROOT = env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles"))
STORAGES = {
    **STORAGES,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
