"""One machine, embedded servers, a generated secret."""

from backend.settings import environment as env
from backend.settings.base import *
from backend.settings.base import DATA_DIR

#: Django's debug pages. For work on the code only.
DEBUG = env.switch("DEBUG", False)
SECRET_KEY = env.text("SECRET_KEY") or env.generated_secret(DATA_DIR / "secret_key")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
WHITENOISE_USE_FINDERS = True
