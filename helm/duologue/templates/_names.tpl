{{/* Names and labels. */}}

{{- define "duologue.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What finds the pods of one component: never changes. (dict "root" $ "component" "scoring") */}}
{{- define "duologue.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "duologue.labels" -}}
{{ include "duologue.selector" . }}
app.kubernetes.io/part-of: duologue
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image of ours. (dict "root" $ "name" "scoring") */}}
{{- define "duologue.image" -}}
{{- $image := .root.Values.image -}}
{{- printf "%s/duologue-%s:%s" (trimSuffix "/" $image.registry) .name (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}

{{/* Where a model server of the chart answers. (dict "root" $ "name" "agent") */}}
{{- define "duologue.modelServerName" -}}
{{- printf "%s-model-%s" (include "duologue.fullname" .root) .name -}}
{{- end -}}

{{/* Where a service answers gRPC: host:port. (dict "root" $ "name" "filtering") */}}
{{- define "duologue.address" -}}
{{- printf "%s-%s.%s.svc:7401" (include "duologue.fullname" .root) .name .root.Release.Namespace -}}
{{- end -}}

{{/* The service account of a service: training has one of its own. (dict "root" $ "name" "scoring") */}}
{{- define "duologue.serviceAccount" -}}
{{- $full := include "duologue.fullname" .root -}}
{{- ternary (printf "%s-training" $full) $full (eq .name "training") -}}
{{- end -}}

{{/* A model server as it is told, with the defaults, as YAML. (dict "root" $ "name" "agent") */}}
{{- define "duologue.modelServer" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.modelServerDefaults) (index .root.Values.modelServers .name)) -}}
{{- end -}}
