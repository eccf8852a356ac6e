"""The numbers of a controller, as Prometheus reads them."""
