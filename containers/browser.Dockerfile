# The browser image, from a registry's Debian. `build.py` uses it where a registry can be reached, else debootstrap.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive
COPY browser-packages.txt browser-finish.sh /build/
RUN apt-get update && grep -v '^#' /build/browser-packages.txt | xargs apt-get install -y --no-install-recommends
RUN sh /build/browser-finish.sh && rm -r /build
ENV DEBIAN_FRONTEND=
WORKDIR /home/agent
CMD ["chromium", "--version"]
