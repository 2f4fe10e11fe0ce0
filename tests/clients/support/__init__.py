"""What the client tests share: the gateway, its models, and a reference for its answers."""
