"""The only importer of nats: names and bytes in, our errors out."""
