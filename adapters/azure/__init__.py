"""Azure API Management: an inbound policy."""
