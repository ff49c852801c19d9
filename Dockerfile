# The gateway as an image: built with Swift, run on a slim Debian by a user without rights. amd64 and arm64.
#
#   docker build -t mcp-proxy .
#   docker run -p 9090:9090 -v "$PWD/config:/config:ro" mcp-proxy
#
# Every step is a command of scripts/docker-build-steps, which scripts/prove-fresh-debian runs in a plain Debian tree.
FROM swift:6.3-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/docker-build-steps build /out

FROM debian:bookworm-slim
COPY scripts/docker-build-steps /usr/local/lib/mcp-proxy/docker-build-steps
RUN /usr/local/lib/mcp-proxy/docker-build-steps runtime
COPY --from=build /out/ /usr/local/bin/
USER mcp-proxy
WORKDIR /config
EXPOSE 9090
# The port that `mcpProxy.addr` names; set MCP_PROXY_HEALTH_PORT where it is not 9090.
HEALTHCHECK --interval=15s --timeout=3s --start-period=5s CMD ["/usr/local/lib/mcp-proxy/docker-build-steps", "health"]
ENTRYPOINT ["/usr/local/bin/mcp-proxy"]
CMD ["--config", "/config/config.json"]
