#!/bin/sh
# Build the image and run a command in a sandbox in a container. Run it in the repository; it needs a Docker daemon.
set -e
docker build -q -f examples/docker/Dockerfile -t capsule-run-example . >/dev/null
docker run --rm \
	--security-opt seccomp=unconfined --security-opt systempaths=unconfined --security-opt apparmor=unconfined \
	capsule-run-example -- echo "Hello from a sandbox in a container"
