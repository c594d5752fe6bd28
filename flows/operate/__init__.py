"""What runs Hone for a team: blocks, deployments, events."""
