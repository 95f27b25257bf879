{{- define "appliance.name" -}}
{{- printf "%s" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "appliance.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "appliance.labels" -}}
{{ include "appliance.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "appliance.keySecret" -}}
{{- if .Values.apiKeys.existingSecret -}}
{{ .Values.apiKeys.existingSecret }}
{{- else if .Values.apiKeys.keys -}}
{{ include "appliance.name" . }}-keys
{{- end -}}
{{- end -}}

{{/* What a plan needs, and a twentieth of the limit (32 MiB at least), which a plan leaves free under one. */}}
{{- define "appliance.planMiB" -}}
{{- $bytes := int64 .Values.plan.totalBytes -}}
{{- $share := add (div (mul $bytes 20) 19) 1 -}}
{{- $least := add $bytes 33554432 -}}
{{- add (div (max $share $least) 1048576) 1 -}}
{{- end -}}

{{/* Of a probe; localhost is a name that is always answered. */}}
{{- define "appliance.asked" -}}
httpGet:
  path: {{ . }}
  port: http
  httpHeaders:
    - name: Host
      value: localhost
{{- end -}}

{{- define "appliance.resources" -}}
{{- if int64 .Values.plan.totalBytes -}}
{{- $memory := printf "%sMi" (include "appliance.planMiB" .) -}}
requests:
  {{- with .Values.plan.cpus }}
  cpu: {{ . | quote }}
  {{- end }}
  memory: {{ $memory }}
limits:
  {{- with .Values.plan.cpus }}
  cpu: {{ . | quote }}
  {{- end }}
  memory: {{ $memory }}
{{- else -}}
{{ toYaml .Values.resources }}
{{- end -}}
{{- end -}}
