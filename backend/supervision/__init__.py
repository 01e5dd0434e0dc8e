"""What ``manage.py up`` needs beside its command: checks before the start, and the processes it keeps running."""
