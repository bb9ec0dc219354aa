"""What `make bench` and `make demo-leak` share: servers to start, load to make, apps to
deploy. Standard library only."""
