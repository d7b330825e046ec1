# The page of `vtd app` in a container; docs/app.md says how to build and run it. No weights are in the image: they are in the
# volume /weights, where a start with VTD_JAX_DOWNLOAD=1 puts them. The token comes from the variable VTD_JAX_APP_TOKEN.
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY vtd_jax vtd_jax
COPY experiments experiments
COPY data data
RUN pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .

FROM python:3.12-slim
COPY requirements.txt /tmp/
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint=/tmp/requirements.txt "$(echo /tmp/wheels/vtd_jax-*.whl)[app]" \
    && rm -r /tmp/wheels /tmp/requirements.txt
RUN useradd --create-home --uid=1000 vtd && mkdir /weights /clips && chown vtd /weights
ENV VTD_JAX_CACHE=/weights HF_HOME=/weights/huggingface JAX_PLATFORMS=cpu
USER vtd
VOLUME /weights
EXPOSE 7860
# the first process of a container ignores SIGTERM until the page is served, SIGINT never
STOPSIGNAL SIGINT
ENTRYPOINT ["vtd", "app", "--host=0.0.0.0", "--port=7860"]
CMD ["--model=ViT-B/16", "/clips"]
