"""The services around the flow, each with how it starts and stops."""
