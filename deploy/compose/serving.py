"""Whether a service says that it serves: `python serving.py HOST:PORT`, for health checks that are commands.

It is no part of the images, where Kubernetes asks by itself. It imports nothing of ours, which would take a second.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 5

with grpc.insecure_channel(sys.argv[1]) as channel:
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    except grpc.RpcError as error:
        sys.exit(f"{sys.argv[1]} does not answer: {error.details()}")
if answer.status != health_pb2.HealthCheckResponse.SERVING:
    sys.exit(f"{sys.argv[1]} does not serve")
