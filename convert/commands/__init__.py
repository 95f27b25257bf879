"""The commands of appliance-convert. Know no format."""
