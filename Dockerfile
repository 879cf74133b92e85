# Hall Monitor in a container. docker-compose.yml adds a database and a validating upstream.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10053 hallmonitor \
    && useradd --system --uid 10053 --gid hallmonitor --no-create-home --home-dir /var/lib/hallmonitor \
        --shell /usr/sbin/nologin hallmonitor \
    && install --directory --owner hallmonitor --group hallmonitor --mode 0750 /var/lib/hallmonitor
# What changes seldom first: a change of ours leaves this layer as it is.
COPY requirements.lock /tmp/requirements.lock
RUN python -m pip install --no-cache-dir --require-hashes --requirement /tmp/requirements.lock \
    && rm /tmp/requirements.lock
COPY --from=build /wheel /tmp/wheel
RUN python -m pip install --no-cache-dir --no-deps /tmp/wheel/*.whl && rm -r /tmp/wheel
COPY deploy/hallmonitor.toml /etc/hallmonitor/hallmonitor.toml

USER hallmonitor
WORKDIR /var/lib/hallmonitor
VOLUME /var/lib/hallmonitor
EXPOSE 53/udp 53/tcp 8053/tcp
STOPSIGNAL SIGTERM
# The API answers with an error only where nobody is served. Its port is admin.listen of deploy/hallmonitor.toml.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8053/api/v1/health', timeout=5)"]
ENTRYPOINT ["hallmonitor"]
CMD ["serve"]
