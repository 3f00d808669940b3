"""The pipeline's stages: one thin command each, wired together by dvc.yaml."""
