#!/bin/sh
# Start the machine, install capsule-run from this repository, and run a command in a sandbox. Needs Lima (brew install lima).
set -e
repository=$(cd "$(dirname "$0")/../.." && pwd)
limactl start --tty=false --name capsule "$repository/examples/lima/capsule.yaml"
limactl shell capsule -- sh -c "python3 -m venv ~/capsule && cp -r '$repository' ~/source && ~/capsule/bin/pip install -q ~/source"
limactl shell capsule -- sh -c 'cd && ~/capsule/bin/capsule-run -- echo "Hello from a sandbox in a virtual machine"'
