"""``manage.py place_orders 20``: a chord of chains over both apps, and a long task; waits for them if asked to."""

from celery import chain, chord
from django.core.management.base import BaseCommand
from mails.tasks import summarise, tell

from orders.tasks import charge, restock, ship


class Command(BaseCommand):
    help = "Send the tasks of some orders."

    def add_arguments(self, parser):
        parser.add_argument("count", type=int)
        parser.add_argument("--shelves", type=int, default=10)
        parser.add_argument("--wait", type=float, default=0, help="seconds to wait for all of it to be done")

    def handle(self, *, count, shelves, wait, **options):
        told = chord((chain(charge.s(n), ship.s(), tell.s()) for n in range(count)), summarise.s()).apply_async()
        stocked = restock.delay(shelves)
        self.stdout.write(f"{count} orders: {told.id}\nshelves: {stocked.id}")
        if wait:
            self.stdout.write(f"{told.get(timeout=wait)} customers were told; {stocked.get(timeout=wait)}")
