{{/* The Job that the training service starts for each training; it fills in the name, labels and what to train. */}}
{{- define "duologue.trainingJob" -}}
{{- $training := .Values.services.training -}}
{{- $job := $training.job -}}
{{- $at := dict "root" . "name" "training" "component" "training-job" "at" $job -}}
apiVersion: batch/v1
kind: Job
metadata:
  labels: {{- include "duologue.labels" $at | nindent 4 }}
spec:
  activeDeadlineSeconds: {{ $job.deadlineSeconds }}
  ttlSecondsAfterFinished: {{ $job.ttlSeconds }}
  template:
    metadata:
      labels: {{- include "duologue.labels" $at | nindent 8 }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "duologue.fullname" . }}
      {{- include "duologue.podSecurity" . | nindent 6 }}
      {{- include "duologue.pullSecrets" . | nindent 6 }}
      {{- include "duologue.placement" $at | nindent 6 }}
      containers:
        - name: training
          image: {{ default (include "duologue.image" (dict "root" . "name" "training-job")) $job.image }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          command: {{- toYaml (default (list "python" "-m" "duologue_training.pod") $job.command) | nindent 12 }}
          {{- include "duologue.containerSecurity" . | nindent 10 }}
          env:
            - {name: DUOLOGUE_ARTIFACTS__URL, value: {{ .Values.artifacts.url | quote }}}
            {{- with .Values.artifacts.s3 }}
            {{- if .endpointUrl }}
            - {name: DUOLOGUE_ARTIFACTS__S3__ENDPOINT_URL, value: {{ .endpointUrl | quote }}}
            {{- end }}
            {{- if .region }}
            - {name: DUOLOGUE_ARTIFACTS__S3__REGION, value: {{ .region | quote }}}
            {{- end }}
            {{- if .pathStyle }}
            - {name: DUOLOGUE_ARTIFACTS__S3__PATH_STYLE, value: "true"}
            {{- end }}
            {{- end }}
            - {name: DUOLOGUE_WORK, value: /work/training}
            - {name: DUOLOGUE_LOG__FORMAT, value: json}
            # Libraries keep their caches below it: the root is read-only.
            - {name: HOME, value: /work}
            - {name: HF_HOME, value: {{ $job.weightsPath }}}
            {{- with $job.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with include "duologue.envFrom" $at }}
          envFrom: {{- . | nindent 12 }}
          {{- end }}
          resources:
            requests: {{- toYaml $job.resources.requests | nindent 14 }}
            limits: {{- toYaml $job.resources.limits | nindent 14 }}
              {{- if $job.gpus }}
              {{ $job.gpuResource }}: {{ $job.gpus }}
              {{- end }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: work, mountPath: /work}
            - {name: shared-memory, mountPath: /dev/shm}
            {{- include "duologue.artifactsMount" . | nindent 12 }}
            {{- if $job.weightsClaim }}
            - {name: weights, mountPath: {{ $job.weightsPath }}, readOnly: true}
            {{- end }}
            {{- with $job.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        - name: work
          emptyDir: {}
        - name: shared-memory
          emptyDir: {medium: Memory, sizeLimit: 8Gi}
        {{- include "duologue.artifactsVolume" . | nindent 8 }}
        {{- with $job.weightsClaim }}
        - name: weights
          persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
        {{- end }}
        {{- with $job.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
