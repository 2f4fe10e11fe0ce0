# A small image that runs as an ordinary user.
#
#   docker build -t foreshadow .
#   docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD/models:/models:ro" foreshadow
#
# The admin API stays on the container's loopback; to reach it from outside
# give it an address and a token:
#   -p 8002:8002 -e FORESHADOW_ADMIN_LISTEN=0.0.0.0:8002 -e FORESHADOW_ADMIN_TOKEN_FILE=/run/secrets/admin
#
# For models that run on ONNX Runtime give it the library:
#   -v /path/to/libonnxruntime.so:/usr/local/lib/libonnxruntime.so:ro
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin foreshadow
RUN install -D -s -m 0755 "${CARGO_TARGET_DIR:-target}/release/foreshadow" "${ROOTFS:-/rootfs}/usr/local/bin/foreshadow"
RUN install -d -m 0777 "${ROOTFS:-/rootfs}/var/lib/foreshadow"

FROM debian:bookworm-slim
COPY --from=build /rootfs/ /
COPY models /models
USER 10001:10001
ENV FORESHADOW_SERVER_LISTEN=0.0.0.0:8000 \
    FORESHADOW_GRPC_LISTEN=0.0.0.0:8001 \
    FORESHADOW_REPOSITORY_MODELS=/models \
    FORESHADOW_REPOSITORY_STATE=/var/lib/foreshadow
VOLUME /var/lib/foreshadow
EXPOSE 8000 8001 8002
ENTRYPOINT ["foreshadow"]
CMD ["serve"]
