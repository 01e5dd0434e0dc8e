"""An app with work that is neither a pipeline's run nor a Celery task: commands on a machine, as cron starts them."""
