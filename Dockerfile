# diffscm as a service: built in one stage, run in another that holds the program, its libraries,
# the shipped models and the page. See docs/development.md for how the image is tried.
#
#   docker build -t diffscm .
#   docker run --rm --read-only -p 127.0.0.1:8080:8080 -e DIFFSCM_ALLOW_ANONYMOUS=on diffscm
#   docker run --rm --read-only diffscm work --store redis://HOST      # a worker of a shared store
# A point release by name; a digest is stricter: --build-arg BASE=debian@sha256:...
ARG BASE=debian:12.11-slim
FROM $BASE AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        gcc libc6-dev make libmicrohttpd-dev libpng-dev libjpeg-dev libjansson-dev \
        libopenblas-dev libarchive-dev libssl-dev libsqlite3-dev libhiredis-dev zlib1g-dev && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make -j"$(nproc)" all && make install-program DESTDIR=/image PREFIX=/usr && strip /image/usr/bin/diffscm

FROM $BASE
RUN apt-get update && apt-get install -y --no-install-recommends \
        libmicrohttpd12 libpng16-16 libjpeg62-turbo libjansson4 libopenblas0-pthread libarchive13 \
        libssl3 libsqlite3-0 libhiredis0.14 zlib1g && \
    rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* && \
    useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin diffscm
COPY --from=build /image/ /
USER 10001:10001
# Only the program's own port is meant for others; 9090 answers health checks inside the container.
# It does not start without keys (DIFFSCM_KEYS_FILE) unless DIFFSCM_ALLOW_ANONYMOUS=on is given.
ENV DIFFSCM_HOST=0.0.0.0 DIFFSCM_DATA_DIR=/usr/share/diffscm
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/bin/diffscm", "serve", "--check"]
ENTRYPOINT ["/usr/bin/diffscm"]
CMD ["serve"]
