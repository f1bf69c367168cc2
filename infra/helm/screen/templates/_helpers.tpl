{{- define "screen.labels" -}}
app.kubernetes.io/name: screen
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "screen.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "screen.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "screen.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user }}
runAsGroup: {{ .Values.group }}
fsGroup: {{ .Values.group }}
# Without this every file of an archive is looked at whenever a pod starts.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* What workers, feeders and watchers have in common. */ -}}
{{- define "screen.env" -}}
{{- if .Values.redis.enabled }}
- name: SCREEN_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret }}
      key: {{ .Values.redis.key }}
- name: SCREEN_BROKER_URL
  value: redis://screen:$(SCREEN_REDIS_PASSWORD)@{{ .Release.Name }}-redis:6379/0
{{- else }}
- name: SCREEN_BROKER_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.broker.existingSecret }}
      key: {{ .Values.broker.key }}
{{- end }}
- name: SCREEN_OUT
  value: {{ .Values.out | quote }}
- name: SCREEN_ALLOWED_ROOTS
  value: {{ join "," .Values.allowedRoots | quote }}
- name: SCREEN_PROCESSES
  value: {{ .Values.worker.processes | quote }}
- name: SCREEN_SHUTDOWN_SECONDS
  value: {{ .Values.worker.shutdownSeconds | quote }}
- name: SCREEN_LOG_FORMAT
  value: json
- name: SCREEN_METRICS_PORT
  value: "9108"
- name: SCREEN_METRICS_ADDRESS
  value: 0.0.0.0
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "screen.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- range .Values.volumes }}
- name: {{ .name }}
  mountPath: {{ .path }}
  readOnly: {{ .readOnly }}
{{- end }}
{{- end }}

{{- define "screen.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 2Gi
{{- range .Values.volumes }}
- name: {{ .name }}
  persistentVolumeClaim:
    claimName: {{ .claim }}
    readOnly: {{ .readOnly }}
{{- end }}
{{- end }}

{{- /* A broker that is away makes nobody ill: it is starting that takes long, not recovering. */ -}}
{{- define "screen.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 4
readinessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 15
  timeoutSeconds: 10
{{- end }}

{{- /* A deployment: (dict "root" $ "name" "worker" "args" (list ...) "resources" ... ). */ -}}
{{- define "screen.deployment" -}}
{{- $root := .root }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $root.Release.Name }}-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "screen.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ .replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "screen.labels" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "screen.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
        screen/uses-queue: "true"
    spec:
      serviceAccountName: {{ $root.Release.Name }}
      automountServiceAccountToken: false
      # Above the shutdown, the five seconds it may take longer, and the start of the signal.
      terminationGracePeriodSeconds: {{ add $root.Values.worker.shutdownSeconds 20 }}
      securityContext:
        {{- include "screen.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ .image | default (include "screen.image" $root.Values.image) }}
          imagePullPolicy: IfNotPresent
          args: {{ toJson .args }}
          env:
            {{- include "screen.env" $root | trim | nindent 12 }}
          {{- with $root.Values.envFromSecrets }}
          envFrom:
            {{- range . }}
            - secretRef:
                name: {{ . }}
            {{- end }}
          {{- end }}
          {{- if .probes }}
          ports:
            - name: metrics
              containerPort: 9108
          {{- include "screen.probes" $root | nindent 10 }}
          {{- end }}
          resources:
            {{- toYaml .resources | nindent 12 }}
          securityContext:
            {{- include "screen.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "screen.mounts" $root | nindent 12 }}
      volumes:
        {{- include "screen.volumes" $root | nindent 8 }}
{{- end }}
