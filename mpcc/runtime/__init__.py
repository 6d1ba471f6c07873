"""Running compiled programs: certificates, clusters, party processes, sessions."""
