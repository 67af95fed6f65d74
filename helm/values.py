"""What the chart can be told: one pydantic model, from which its schema and its README are generated.

Helm checks values against the schema before anything is rendered, so every field has a type, a bound and a sentence,
and nothing unknown is taken. Names are camelCase, as Kubernetes' own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kMGTP]i?)?$")]
Url = Annotated[str, Field(pattern=r"^(https?://[^\s,@]+(,https?://[^\s,@]+)*)?$")]
Address = Annotated[str, Field(pattern=r"^([^\s,:]+:[0-9]{1,5}(,[^\s,:]+:[0-9]{1,5})*)?$")]
Strings = dict[str, str]
Objects = list[dict[str, Any]]


class Group(BaseModel):
    """Values that belong together."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Image(Group):
    """Where the images are. `make images` builds them; nobody publishes them for you."""

    registry: str = Field("", description="Registry and folder that the images were pushed to, such as ghcr.io/acme.")
    tag: str = Field("", description="Their tag; the chart's appVersion when empty.")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field("IfNotPresent", description="As Kubernetes has it.")
    pull_secrets: list[Name] = Field([], description="Names of secrets to pull with.")


class SecretKey(Group):
    """One entry of a secret that exists."""

    existing_secret: Name = Field("", description="Name of a secret in the release's namespace.")
    key: str = Field("", description="The entry in it.")


class DatabaseSecret(SecretKey):
    """Where a service's database is, in a secret: postgresql://user:password@host/name."""

    key: str = Field("uri", description="The entry in it; `uri` as CloudNativePG writes it.")


class Database(Group):
    """PostgreSQL, a database or a schema for each of two services. The secrets are yours or an operator's."""

    campaign: DatabaseSecret = DatabaseSecret()
    filtering: DatabaseSecret = DatabaseSecret()


class KafkaTls(Group):
    """Encryption to the brokers."""

    enabled: bool = Field(False, description="Encrypt, and check who the brokers are.")
    ca: SecretKey = Field(SecretKey(key="ca.crt"), description="Authorities to trust; the system's without a secret.")
    certificate: Name = Field(
        "",
        description="Secret with `tls.crt` and `tls.key` (Strimzi: `user.crt`, `user.key`), where brokers ask for one.",
    )
    certificate_key: str = Field("tls.crt", description="The certificate's entry in it.")
    private_key: str = Field("tls.key", description="The key's entry in it.")


class KafkaSasl(Group):
    """Who we are to the brokers."""

    mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("", description="Empty: nobody.")
    username: str = Field("", description="The user.")
    password: SecretKey = Field(SecretKey(key="password"), description="Its password.")


class Topics(Group):
    """Made and mended by a hook Job before each install and upgrade; never deleted."""

    apply: bool = Field(True, description="Whether the chart does it. Off, when Strimzi's KafkaTopics or people do.")
    partitions: int = Field(0, ge=0, le=10_000, description="Of the topics of dialogues; 0: 24.")
    replicas: int = Field(
        0, ge=0, le=9, description="Copies of every record; 0: three, or as many as there are brokers."
    )


class Kafka(Group):
    """Apache Kafka 3.3 or newer."""

    brokers: Address = Field("", description="host:port of a few brokers, separated by commas. Required.")
    tls: KafkaTls = KafkaTls()
    sasl: KafkaSasl = KafkaSasl()
    topics: Topics = Topics()


class S3(Group):
    """A store that speaks S3 and is not AWS's, such as MinIO or Ceph."""

    endpoint_url: Annotated[str, Field(pattern=r"^(https?://[^\s@]+)?$")] = Field("", description="Empty: AWS.")
    region: str = Field("", description="Empty: as the environment says.")
    path_style: bool = Field(False, description="Buckets as a folder of the URL instead of a host of their own.")


class Artifacts(Group):
    """Where workflows, datasets and adapters lie. Every service sees the same."""

    url: str = Field(
        "",
        pattern=r"^(((s3|gs|gcs|abfs)://|/)[^\s@]*)?$",
        description="s3://bucket/prefix, gs://bucket/prefix, or with `existingClaim` a folder. Required.",
    )
    s3: S3 = S3()
    existing_claim: Name = Field(
        "", description="A claim that many pods can write (ReadWriteMany), mounted where `url` says."
    )
    existing_secret: Name = Field(
        "", description="Its entries become environment, such as AWS_ACCESS_KEY_ID. None with IAM roles."
    )


class Role(Group):
    """The model of one part: served by the chart (`server`), or elsewhere (`url`)."""

    server: Name = Field("", description="A name under `modelServers`.")
    url: Url = Field("", description="Base URL without /v1; several servers of one model are separated by commas.")
    model: str = Field(
        "", description="Name that the server knows the model by; a `modelServers` entry's own when empty."
    )
    api_key: SecretKey = Field(SecretKey(key="api-key"), description="Sent as a bearer token.")
    settings: dict[str, Any] = Field(
        {}, description="More settings of a model, as in docs/reference/settings.md under `models.client`."
    )


class Models(Group):
    """Who speaks. Manager and judge are the client's model where nothing else is said, as in the paper."""

    client: Role = Role()
    agent: Role = Role()
    manager: Role = Role()
    judge: Role = Role()


class Resources(Group):
    """As Kubernetes has it."""

    requests: dict[str, Quantity] = Field({}, description="What is set aside.")
    limits: dict[str, Quantity] = Field({}, description="What must not be exceeded.")


class Scaling(Group):
    """Between how many copies, and by what."""

    min: int = Field(ge=0, le=1000, description="At least; 0 with KEDA only.")
    max: int = Field(ge=1, le=1000, description="At most.")
    target: int = Field(32, ge=1, le=1_000_000, description="Records that wait, or requests, for each copy.")
    cooldown_seconds: int = Field(300, ge=0, le=86_400, description="Quiet for so long before copies go.")


class Placement(Group):
    """Where pods may run."""

    node_selector: Strings = Field({}, description="Labels of nodes.")
    tolerations: Objects = Field([], description="Taints that are borne, such as nvidia.com/gpu.")
    affinity: dict[str, Any] = Field({}, description="As Kubernetes has it; empty spreads replicas over nodes.")
    priority_class_name: Name = Field("", description="An existing priority class.")


class ModelServer(Placement):
    """Text Generation Inference or vLLM on GPUs, one Deployment with a Service each.

    `modelServerDefaults` has what is not said under `modelServers`.
    """

    engine: Literal["tgi", "vllm"] = Field("tgi", description="Which server.")
    image: str = Field("", description="Its image with tag or digest. Required.")
    model: str = Field("", description="Id or folder of the weights. Required.")
    args: list[str] = Field([], description="More arguments of the server.")
    replicas: int = Field(1, ge=0, le=1000, description="Copies; without `scaling`.")
    gpus: int = Field(1, ge=0, le=16, description="GPUs of a copy (`gpuResource`); the model is split over them.")
    gpu_resource: str = Field("nvidia.com/gpu", description="What the cluster calls a GPU.")
    resources: Resources = Resources(requests={"cpu": "4", "memory": "32Gi"}, limits={"memory": "64Gi"})
    shared_memory: Quantity = Field("8Gi", description="Of /dev/shm, for NCCL between the GPUs of a copy.")
    cache_claim: Name = Field("", description="Claim for downloaded weights; without one each start downloads them.")
    token: SecretKey = Field(SecretKey(key="token"), description="For gated weights (HF_TOKEN).")
    adapters: list[str] = Field(
        [],
        description="TGI: adapters to load at the start, id=/path; a released one comes by a rollout.",
    )
    startup_seconds: int = Field(1800, ge=10, le=14_400, description="How long a start may take, weights and all.")
    drain_seconds: int = Field(120, ge=1, le=3600, description="For answers under way when a copy is stopped.")
    scaling: Scaling | None = Field(None, description="By requests that wait at the server; needs `autoscaling: keda`.")


class Service(Placement):
    """One of the five services."""

    replicas: int = Field(1, ge=0, le=1000, description="Copies; without `scaling`.")
    scaling: Scaling | None = Field(None, description="By lag (`autoscaling: keda`) or by processor (`hpa`).")
    resources: Resources = Resources(requests={"cpu": "250m", "memory": "256Mi"}, limits={"memory": "1Gi"})
    settings: dict[str, Any] = Field(
        {}, description="Settings as in docs/reference/settings.md; what the chart sets itself is set over them."
    )
    env: Objects = Field([], description="More environment of the container.")
    pod_annotations: Strings = Field({}, description="Of its pods.")
    pod_labels: Strings = Field({}, description="Of its pods.")
    grace_seconds: int = Field(
        60, ge=10, le=7200, description="Kubernetes kills after so long; what is in work has five seconds less."
    )


class TrainingJob(Placement):
    """The Job that each training runs as, on a GPU."""

    image: str = Field("", description="The training image; empty: of `image`.")
    command: list[str] = Field([], description="Instead of `python -m duologue_training.pod`.")
    gpus: int = Field(1, ge=0, le=16, description="GPUs of a training (`gpuResource`).")
    gpu_resource: str = Field("nvidia.com/gpu", description="What the cluster calls a GPU.")
    resources: Resources = Resources(requests={"cpu": "4", "memory": "32Gi"}, limits={"memory": "64Gi"})
    weights_claim: Name = Field("", description="Claim with the base weights, mounted read-only under `weightsPath`.")
    weights_path: str = Field("/weights", pattern=r"^/.+", description="Where; `baseModel` is a folder in it.")
    deadline_seconds: int = Field(86_400, ge=60, le=2_592_000, description="A training that takes longer has failed.")
    ttl_seconds: int = Field(3600, ge=0, le=2_592_000, description="Finished Jobs are kept for so long.")
    env: Objects = Field([], description="More environment of the container.")
    extra_volumes: Objects = Field([], description="More volumes of the pod.")
    extra_volume_mounts: Objects = Field([], description="Where they are mounted.")


class Training(Service):
    """The training service, and what it starts."""

    base_model: str = Field("", description="Folder or id of the agent's weights; a campaign's own setting wins.")
    job: TrainingJob = TrainingJob()


class Services(Group):
    """The five services."""

    campaign: Service = Service(replicas=2)
    roleplay: Service = Service(replicas=2)
    scoring: Service = Service(replicas=2)
    filtering: Service = Service(replicas=2)
    training: Training = Training()


class Grpc(Group):
    """How services and people prove who they are."""

    tls_secret: Name = Field("", description="Secret with tls.crt, tls.key and ca.crt, as cert-manager writes it.")
    require_client_certificate: bool = Field(
        False, description="Callers must show a certificate of ca.crt's authorities."
    )
    tokens: SecretKey = Field(SecretKey(key="tokens"), description="A file of tokens, one a line.")


class Gateway(Group):
    """A GRPCRoute to the campaign service."""

    parent_refs: Objects = Field([], description="Gateways that it is attached to.")
    hostnames: list[str] = Field([], description="Host names that it answers for.")


class Ingress(Group):
    """An Ingress to the campaign service, for controllers that speak gRPC."""

    class_name: str = Field("", description="Its class.")
    host: str = Field("", description="Host name; empty: no Ingress.")
    annotations: Strings = Field({}, description="Such as nginx.ingress.kubernetes.io/backend-protocol: GRPC.")
    tls_secret: Name = Field("", description="Secret with the host's certificate.")


class Monitored(Group):
    """One kind of monitoring object."""

    enabled: bool = Field(False, description="Whether the chart makes it.")
    labels: Strings = Field({}, description="By which the operator or Grafana's sidecar finds it.")


class PodMonitors(Monitored):
    """Prometheus Operator's PodMonitor."""

    interval: str = Field("30s", pattern=r"^[0-9]+(ms|s|m)$", description="Between two scrapes.")


class Dashboards(Monitored):
    """Grafana's dashboards as ConfigMaps."""

    labels: Strings = Field({"grafana_dashboard": "1"}, description="By which Grafana's sidecar finds them.")


class Monitoring(Group):
    """Prometheus Operator's objects and Grafana's dashboards."""

    prometheus_url: Url = Field("", description="Prometheus itself, for scaling model servers by their queue.")
    pod_monitor: PodMonitors = PodMonitors()
    rules: Monitored = Monitored()
    dashboards: Dashboards = Dashboards()


class NetworkPolicy(Group):
    """Default-deny with named openings. Peers are written as NetworkPolicy has them."""

    enabled: bool = Field(
        True, description="Whether the chart makes them. Name what lies outside, or nothing reaches it."
    )
    kafka: Objects = Field([], description="Peers that the brokers are; empty: anywhere, on the brokers' ports.")
    postgresql: Objects = Field([], description="Peers that the database is; empty: anywhere, on 5432.")
    postgresql_ports: list[int] = Field([5432], description="Its ports.")
    models: Objects = Field([], description="Peers that model servers elsewhere are; empty: anywhere, on their ports.")
    artifacts: Objects = Field([], description="Peers that the object store is; empty: anywhere, on `artifactsPorts`.")
    artifacts_ports: list[int] = Field([443], description="Its ports.")
    kubernetes_ports: list[int] = Field([443, 6443], description="Of the Kubernetes API, for the training service.")
    metrics: Objects = Field([], description="Who may scrape; empty: the same namespace.")
    campaign: Objects = Field([], description="Who may call the campaign service; empty: the same namespace.")
    extra_egress: Objects = Field([], description="More rules of egress, for every pod.")


class ServiceAccount(Group):
    """The account of the pods. Only training's may do anything in Kubernetes."""

    annotations: Strings = Field({}, description="Such as eks.amazonaws.com/role-arn.")


class Mlflow(Group):
    """An MLflow server to tell of campaigns and adapters."""

    url: Url = Field("", description="Its URL; empty: none.")
    existing_secret: Name = Field("", description="Its entries become environment, such as MLFLOW_TRACKING_TOKEN.")


class Traces(Group):
    """OpenTelemetry."""

    endpoint: Url = Field("", description="OTLP collector, such as http://otel-collector:4317; empty: no traces.")
    sample: float = Field(0.05, ge=0, le=1, description="Share of dialogues that are traced.")


class Values(Group):
    """All values."""

    name_override: Name = Field("", description="Instead of the chart's name in names.")
    fullname_override: Name = Field("", max_length=40, description="Instead of release and chart in names.")
    image: Image = Image()
    kafka: Kafka = Kafka()
    database: Database = Database()
    artifacts: Artifacts = Artifacts()
    models: Models = Models()
    model_servers: dict[Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,20}[a-z0-9])?$")], ModelServer] = Field(
        {}, description="Model servers that the chart runs, by a name of yours."
    )
    model_server_defaults: ModelServer = ModelServer()
    services: Services = Services()
    autoscaling: Literal["", "keda", "hpa"] = Field("", description="Who scales what has `scaling`; empty: nobody.")
    grpc: Grpc = Grpc()
    gateway: Gateway = Gateway()
    ingress: Ingress = Ingress()
    monitoring: Monitoring = Monitoring()
    mlflow: Mlflow = Mlflow()
    traces: Traces = Traces()
    network_policy: NetworkPolicy = NetworkPolicy()
    service_account: ServiceAccount = ServiceAccount()
