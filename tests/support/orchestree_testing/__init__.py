"""What tests share and processes can import: agents by script, and a host that records."""
