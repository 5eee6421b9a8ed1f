#!/bin/sh
# Run the pod and print what it said. Needs a cluster of Kubernetes 1.33 or later, with the image in reach, and kubectl.
set -e
folder=$(dirname "$0")
kubectl apply -f "$folder/pod.yaml"
kubectl wait --for=jsonpath='{.status.phase}'=Succeeded --timeout=120s pod/capsule-run
kubectl logs pod/capsule-run
kubectl delete -f "$folder/pod.yaml"
