# The image of every Perennial service: Airflow, the locked libraries, and this tree.
FROM python:3.12-slim-bookworm

RUN useradd --create-home --home-dir /opt/perennial perennial
WORKDIR /opt/perennial
COPY requirements.txt requirements-deploy.txt ./
RUN pip install --no-cache-dir uv==0.13.9 \
 && uv pip install --system --no-cache --require-hashes --compile-bytecode -r requirements.txt \
 && uv pip install --system --no-cache --require-hashes --compile-bytecode -r requirements-deploy.txt
# With --build-arg EXTRAS=boosting: LightGBM, which needs the machine's OpenMP, and XGBoost.
ARG EXTRAS=
COPY requirements-boosting.txt ./
RUN if [ "$EXTRAS" = boosting ]; then \
      apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
   && uv pip install --system --no-cache --require-hashes --compile-bytecode -r requirements-boosting.txt; \
    fi
COPY --chown=perennial dags dags
COPY --chown=perennial plugins plugins
COPY --chown=perennial include include
RUN python -m compileall -q dags plugins include

USER perennial
ENV AIRFLOW_HOME=/opt/perennial/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/perennial/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/perennial/plugins \
    PYTHONPATH=/opt/perennial/include \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 GX_ANALYTICS_ENABLED=false \
    ARROW_DEFAULT_MEMORY_POOL=jemalloc JE_ARROW_MALLOC_CONF=dirty_decay_ms:0,muzzy_decay_ms:0 MALLOC_MMAP_THRESHOLD_=4194304
ENTRYPOINT ["airflow"]
