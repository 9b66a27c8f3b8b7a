# `stcompile serve`, for artifacts that are mounted: docs/serving.md. Where there is no Docker, tests/container/in_a_root.sh
# follows these lines.
FROM python:3.13-slim-trixie AS builder

RUN apt-get update && apt-get install --yes --no-install-recommends g++
WORKDIR /source
COPY pyproject.toml hatch_build.py constraints.txt README.md CHANGELOG.md LICENSE ./
COPY native native
COPY stcompile stcompile
RUN STCOMPILE_NATIVE=1 python3 -m pip wheel --no-deps --wheel-dir /wheels .
RUN python3 -m venv --without-pip /opt/stcompile
RUN python3 -m pip --python /opt/stcompile/bin/python install --no-cache-dir --constraint constraints.txt \
        "$(echo /wheels/stcompile-*.whl)[serve,cpu]"

# What nothing imports here: ONNX Runtime for programs in C, its tools, tests of packages, and symbols for debuggers.
WORKDIR /opt/stcompile/lib/python3.13/site-packages
RUN rm -r onnxruntime/capi/libonnxruntime.so.* onnxruntime/datasets onnxruntime/quantization onnxruntime/tools \
        onnxruntime/transformers
RUN find . -depth -type d -name tests -exec rm -r {} +
RUN find hf_xet httptools tokenizers uvloop yaml -name '*.so' -exec strip --strip-unneeded {} +

FROM python:3.13-slim-trixie

COPY --from=builder /opt/stcompile /opt/stcompile
ENV PATH=/opt/stcompile/bin:$PATH
# The root may be read-only: nothing is written.
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --start-period=60s --timeout=5s \
        CMD ["python", "-c", "import urllib.request as ask; ask.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["stcompile", "serve", "--host", "0.0.0.0", "--port", "8080"]
CMD ["/artifact"]
