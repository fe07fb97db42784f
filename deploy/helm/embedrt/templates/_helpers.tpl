{{/* A label's value that stands for the identities: they are too long, and there may be several. */}}
{{- define "embedrt.identity" -}}
{{- toJson .Values.identities | sha256sum | trunc 16 -}}
{{- end -}}

{{/* What pods of servers carry: with identities, one that changes with them. */}}
{{- define "embedrt.labels" -}}
app: {{ .Release.Name }}
{{- if .Values.identities }}
embedrt/identity: {{ include "embedrt.identity" . | quote }}
{{- end }}
{{- end -}}

{{/* A setting's value as text: numbers without an exponent, lists with commas. */}}
{{- define "embedrt.value" -}}
{{- if kindIs "slice" . -}}{{ join "," . }}
{{- else if kindIs "float64" . -}}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else -}}{{ . }}
{{- end -}}
{{- end -}}

{{- define "embedrt.pod" -}}
# Kubernetes would set EMBEDRT_PORT=tcp://... for a service of this name.
enableServiceLinks: false
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ add .Values.drainSeconds .Values.graceSeconds 10 }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {app: {{ $.app }}}
  {{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end -}}

{{- define "embedrt.container" -}}
image: {{ .Values.image.name }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 3
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
ports:
  - {name: http, containerPort: 8080}
  - {name: metrics, containerPort: 9090}
{{- end -}}
