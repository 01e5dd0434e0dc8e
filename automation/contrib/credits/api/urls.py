"""URLs under ``/api/v1/credits/``."""

from __future__ import annotations

from django.urls import path

from automation.contrib.credits.api import invoices, payments, usage, views

app_name = "credits-api"

urlpatterns = [
    path("accounts/", views.Accounts.as_view(), name="accounts"),
    path("accounts/<str:account_id>/", views.OneAccount.as_view(), name="account"),
    path("accounts/<str:account_id>/top-ups/", views.TopUps.as_view(), name="top-ups"),
    path("accounts/<str:account_id>/payments/", payments.Orders.as_view(), name="orders"),
    path("payments/", payments.Payments.as_view(), name="payments"),
    path("transfers/", views.Transfers.as_view(), name="transfers"),
    path("transfers/<str:transfer_id>/corrections/", views.Corrections.as_view(), name="corrections"),
    path("invoices/", invoices.Invoices.as_view(), name="invoices"),
    path("invoices/<str:number>/pdf/", invoices.InvoicePdf.as_view(), name="invoice-pdf"),
    path("usage/chart/", usage.UsageChart.as_view(), name="usage-chart"),
    path("usage/rows/", usage.UsageRows.as_view(), name="usage-rows"),
    path("usage/", views.UsageHistory.as_view(), name="usage"),
    path("sites/<str:site_id>/budget/", views.Budgets.as_view(), name="budget"),
    path("prices/", views.Prices.as_view(), name="prices"),
    path("runs/<str:run_id>/", views.RunCreditsView.as_view(), name="run"),
]
