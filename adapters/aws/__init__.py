"""Amazon API Gateway: Lambda authorizers and the template that sets one up."""
