"""What crosses between api, gateway, fleet and worker, as plain records. Knows no transport."""
