"""gRPC and HTTP edges."""
