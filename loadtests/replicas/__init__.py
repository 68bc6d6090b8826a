"""Several real replicas behind a balancer: restarts and deaths under load, and what a second core gives."""
