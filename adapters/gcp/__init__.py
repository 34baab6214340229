"""Google Cloud: a WSGI hook for services behind ESPv2, API Gateway or Cloud Run."""
