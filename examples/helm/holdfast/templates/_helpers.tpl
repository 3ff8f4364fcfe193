{{- define "holdfast.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "holdfast.image" -}}
{{- $repository := required "image.repository: say where the image is" .Values.image.repository -}}
{{- if .Values.image.digest }}{{ $repository }}@{{ .Values.image.digest }}
{{- else }}{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "holdfast.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "holdfast.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Of what changes the node. It is root there by what it may write, so each right has its reason. */}}
{{- define "holdfast.nodeSecurityContext" -}}
privileged: false
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  add:
    # systemctl, sh and the kubelet are the node's, run by chroot(8) in /host.
    - SYS_CHROOT
    # Files of the kubelet that are not root's are read, and put back with their owner and mode.
    - DAC_OVERRIDE
    - CHOWN
    - FOWNER
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the pods that change a node have in common. */}}
{{- define "holdfast.podSpec" -}}
serviceAccountName: {{ include "holdfast.serviceAccountName" . }}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
priorityClassName: {{ .Values.priorityClassName }}
# The kubelet's /healthz is on the node's loopback; and no CNI is needed before Holdfast is there.
hostNetwork: true
# systemctl refuses a systemd whose process it cannot see ("Failed to connect to bus: No data available").
hostPID: true
dnsPolicy: Default
enableServiceLinks: false
securityContext:
  seccompProfile:
    type: RuntimeDefault
tolerations:
  {{- toYaml .Values.tolerations | nindent 2 }}
{{- end }}

{{- define "holdfast.hostMount" -}}
- name: host
  mountPath: /host
  # What is mounted on the node later is seen, too.
  mountPropagation: HostToContainer
{{- end }}
