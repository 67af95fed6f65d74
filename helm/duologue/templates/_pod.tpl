{{/* What every pod of ours has: security, volumes, environment. */}}

{{- define "duologue.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "duologue.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "duologue.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "component" "scoring" "at" $placement) */}}
{{- define "duologue.placement" -}}
{{- with .at.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .at.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- else }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "duologue.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Environment that comes from secrets. (dict "root" $ "name" "scoring") */}}
{{- define "duologue.env" -}}
{{- $values := .root.Values -}}
- name: MALLOC_ARENA_MAX
  value: "2"
{{- include "duologue.kafkaEnv" .root | nindent 0 }}
{{- if has .name (list "campaign" "filtering") }}
{{- include "duologue.databaseEnv" . | nindent 0 }}
{{- end }}
{{- $parts := dict "roleplay" (list "client" "agent" "manager") "scoring" (list "judge") }}
{{- range $part := default list (index $parts .name) }}
{{- $role := index $values.models (include "duologue.modelPart" (dict "root" $.root "part" $part)) }}
{{- if $role.apiKey.existingSecret }}
- name: {{ ternary "DUOLOGUE_JUDGE__API_KEY" (printf "DUOLOGUE_MODELS__%s__API_KEY" (upper $part)) (eq $part "judge") }}
  valueFrom:
    secretKeyRef: {name: {{ $role.apiKey.existingSecret }}, key: {{ $role.apiKey.key }}}
{{- end }}
{{- end }}
{{- with $values.traces.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ $values.traces.sample | quote }}
{{- end }}
{{- with (index $values.services .name).env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "duologue.kafkaEnv" -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- if $sasl.mechanism }}
- name: DUOLOGUE_KAFKA__USERNAME
  value: {{ $sasl.username | quote }}
- name: DUOLOGUE_KAFKA__PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $sasl.password.existingSecret }}, key: {{ $sasl.password.key }}}
{{- end }}
{{- end -}}

{{- define "duologue.databaseEnv" -}}
{{- $database := index .root.Values.database .name }}
- name: DUOLOGUE_DATABASE__URL
  valueFrom:
    secretKeyRef: {name: {{ $database.existingSecret }}, key: {{ $database.key }}}
{{- end -}}

{{/* Secrets whose entries all become environment. (dict "root" $ "name" "scoring") */}}
{{- define "duologue.envFrom" -}}
{{- with .root.Values.artifacts.existingSecret }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- if and (eq .name "campaign") .root.Values.mlflow.existingSecret }}
- secretRef: {name: {{ .root.Values.mlflow.existingSecret }}}
{{- end }}
{{- end -}}

{{- define "duologue.kafkaVolumes" -}}
{{- $tls := .Values.kafka.tls -}}
{{- if $tls.ca.existingSecret }}
- name: kafka-ca
  secret: {secretName: {{ $tls.ca.existingSecret }}}
{{- end }}
{{- if $tls.certificate }}
- name: kafka-certificate
  secret: {secretName: {{ $tls.certificate }}}
{{- end }}
{{- end -}}

{{- define "duologue.kafkaMounts" -}}
{{- $tls := .Values.kafka.tls -}}
{{- if $tls.ca.existingSecret }}
- {name: kafka-ca, mountPath: /etc/duologue/kafka-ca, readOnly: true}
{{- end }}
{{- if $tls.certificate }}
- {name: kafka-certificate, mountPath: /etc/duologue/kafka-certificate, readOnly: true}
{{- end }}
{{- end -}}

{{- define "duologue.volumes" -}}
{{- $grpc := .root.Values.grpc -}}
- name: tmp
  emptyDir: {}
- name: settings
  configMap: {name: {{ include "duologue.fullname" .root }}-{{ .name }}}
{{- include "duologue.kafkaVolumes" .root | nindent 0 }}
{{- if $grpc.tlsSecret }}
- name: tls
  secret: {secretName: {{ $grpc.tlsSecret }}}
{{- end }}
{{- if $grpc.tokens.existingSecret }}
- name: tokens
  secret: {secretName: {{ $grpc.tokens.existingSecret }}}
{{- end }}
{{- include "duologue.artifactsVolume" .root | nindent 0 }}
{{- end -}}

{{- define "duologue.mounts" -}}
{{- $grpc := .root.Values.grpc -}}
- {name: tmp, mountPath: /tmp}
- {name: settings, mountPath: /etc/duologue/settings, readOnly: true}
{{- include "duologue.kafkaMounts" .root | nindent 0 }}
{{- if $grpc.tlsSecret }}
- {name: tls, mountPath: /etc/duologue/tls, readOnly: true}
{{- end }}
{{- if $grpc.tokens.existingSecret }}
- {name: tokens, mountPath: /etc/duologue/tokens, readOnly: true}
{{- end }}
{{- include "duologue.artifactsMount" .root | nindent 0 }}
{{- end -}}

{{- define "duologue.artifactsVolume" -}}
{{- with .Values.artifacts.existingClaim }}
- name: artifacts
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- end -}}

{{- define "duologue.artifactsMount" -}}
{{- if .Values.artifacts.existingClaim }}
- {name: artifacts, mountPath: {{ .Values.artifacts.url }}}
{{- end }}
{{- end -}}
