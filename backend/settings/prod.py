"""For production servers: the environment must set everything that matters."""

from backend.settings import environment as env
from backend.settings.base import *
from backend.settings.base import BASE_DIR, STORAGES

SECRET_KEY = env.required("SECRET_KEY")
ALLOWED_HOSTS = [*env.words("ALLOWED_HOSTS", env.required("ALLOWED_HOSTS")), "localhost"]  # for health checks
env.required("DATABASE_URL")
env.required("REDIS_URL")

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.switch("SECURE_COOKIES", True)
SECURE_SSL_REDIRECT = env.switch("SECURE_SSL_REDIRECT", False)
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = env.number("SECURE_HSTS_SECONDS", 0)
if env.switch("BEHIND_TLS_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

STATIC_ROOT = env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles"))
STORAGES = {
    **STORAGES,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
