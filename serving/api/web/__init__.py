"""The web port: HTTP/JSON, the forms of other services, and the page."""
