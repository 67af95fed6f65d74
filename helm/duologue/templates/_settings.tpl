{{/* What the services are told: their settings files. What people set in `services.NAME.settings` comes first, and what
the chart sets itself over it. */}}

{{/* The settings file of a service, as YAML. (dict "root" $ "name" "scoring") */}}
{{- define "duologue.settings" -}}
{{- $values := .root.Values -}}
{{- $service := index $values.services .name -}}
{{- $ours := merge (include "duologue.busSettings" .root | fromYaml) (include "duologue.commonSettings" . | fromYaml) -}}
{{- if eq .name "campaign" -}}
{{- $ours = merge $ours (include "duologue.campaignSettings" .root | fromYaml) -}}
{{- else if eq .name "roleplay" -}}
{{- $models := dict -}}
{{- range $part := list "client" "agent" "manager" -}}
{{- $_ := set $models $part (include "duologue.endpoint" (dict "root" $.root "part" $part) | fromYaml) -}}
{{- end -}}
{{- $_ := set $ours "models" $models -}}
{{- else if eq .name "scoring" -}}
{{- $_ := set $ours "judge" (include "duologue.endpoint" (dict "root" .root "part" "judge") | fromYaml) -}}
{{- else if eq .name "training" -}}
{{- $_ := set $ours "work" "/work" -}}
{{- if not .root.Values.artifacts.existingClaim -}}
{{- /* Merged weights are for servers that read the store as a folder. */ -}}
{{- $_ := set $ours "merge" false -}}
{{- end -}}
{{- $_ := set $ours "job" (dict "template" "/etc/duologue/job/job.yaml" "namespace" .root.Release.Namespace) -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy $service.settings) $ours) -}}
{{- end -}}

{{- define "duologue.busSettings" -}}
{{- $kafka := .Values.kafka -}}
bus:
  url: kafka://{{ $kafka.brokers }}
kafka:
  tls: {{ $kafka.tls.enabled }}
  {{- if $kafka.tls.ca.existingSecret }}
  ca_file: /etc/duologue/kafka-ca/{{ $kafka.tls.ca.key }}
  {{- end }}
  {{- with $kafka.tls.certificate }}
  certificate_file: /etc/duologue/kafka-certificate/{{ $kafka.tls.certificateKey }}
  key_file: /etc/duologue/kafka-certificate/{{ $kafka.tls.privateKey }}
  {{- end }}
  {{- with $kafka.sasl.mechanism }}
  mechanism: {{ . }}
  {{- end }}
{{- end -}}

{{- define "duologue.commonSettings" -}}
{{- $grpc := .root.Values.grpc -}}
{{- $service := index .root.Values.services .name -}}
grpc:
  host: 0.0.0.0
  port: 7401
  health_port: 7501
  {{- if $grpc.tlsSecret }}
  tls: true
  certificate_file: /etc/duologue/tls/tls.crt
  key_file: /etc/duologue/tls/tls.key
  ca_file: /etc/duologue/tls/ca.crt
  require_client_certificate: {{ $grpc.requireClientCertificate }}
  {{- end }}
  {{- if $grpc.tokens.existingSecret }}
  token_file: /etc/duologue/tokens/{{ $grpc.tokens.key }}
  {{- end }}
metrics:
  host: 0.0.0.0
  port: 9090
log:
  format: json
drain_seconds: {{ sub $service.graceSeconds 5 }}
artifacts:
  url: {{ .root.Values.artifacts.url }}
  s3:
    endpoint_url: {{ .root.Values.artifacts.s3.endpointUrl | quote }}
    region: {{ .root.Values.artifacts.s3.region | quote }}
    path_style: {{ .root.Values.artifacts.s3.pathStyle }}
{{- end -}}

{{- define "duologue.campaignSettings" -}}
filtering:
  address: {{ include "duologue.address" (dict "root" . "name" "filtering") }}
training:
  address: {{ include "duologue.trainingAddresses" . }}
{{- with .Values.services.training.baseModel }}
base_model: {{ . }}
{{- end }}
{{- with .Values.mlflow.url }}
mlflow:
  url: {{ . }}
{{- end }}
{{- end -}}

{{/* Each copy of the training service, which is a StatefulSet: a copy knows of its own trainings alone. */}}
{{- define "duologue.trainingAddresses" -}}
{{- $full := include "duologue.fullname" . -}}
{{- $addresses := list -}}
{{- range $number := until (int .Values.services.training.replicas) -}}
{{- $addresses = append $addresses (printf "%s-training-%d.%s-training.%s.svc:7401" $full $number $full $.Release.Namespace) -}}
{{- end -}}
{{- join "," $addresses -}}
{{- end -}}

{{/* Which values tell of a part's model: manager and judge are the client's where nothing is said. Gives the part's name.
(dict "root" $ "part" "judge") */}}
{{- define "duologue.modelPart" -}}
{{- $role := index .root.Values.models .part -}}
{{- if or $role.server $role.url (has .part (list "client" "agent")) -}}
{{- .part -}}
{{- else -}}
client
{{- end -}}
{{- end -}}

{{/* A model's settings. (dict "root" $ "part" "client") */}}
{{- define "duologue.endpoint" -}}
{{- $values := .root.Values -}}
{{- $own := index $values.models .part -}}
{{- $role := index $values.models (include "duologue.modelPart" .) -}}
{{- $endpoint := dict "url" $role.url "model" (default $role.model $own.model) -}}
{{- if $role.server -}}
{{- $server := include "duologue.modelServer" (dict "root" .root "name" $role.server) | fromYaml -}}
{{- $_ := set $endpoint "url" (printf "http://%s:8080" (include "duologue.modelServerName" (dict "root" .root "name" $role.server))) -}}
{{- $_ := set $endpoint "model" (default $server.model $endpoint.model) -}}
{{- if and (eq $server.engine "vllm") $values.artifacts.existingClaim -}}
{{- $_ := set $endpoint "artifacts" $values.artifacts.url -}}
{{- end -}}
{{- end -}}
{{- toYaml (merge $endpoint (deepCopy $own.settings) (deepCopy $role.settings)) -}}
{{- end -}}
