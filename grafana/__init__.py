"""The dashboards: what generates them (`source/`), the result (`dashboards/`), and what hands it to Grafana."""
