"""Generators on the Hugging Face Hub: a model folder as a repository, with a model card.

    alis.Generator.from_pretrained("user/name")        # or a folder
    g.push_to_hub("user/name", private=True)

Only JSON and safetensors are downloaded, so nothing downloaded can execute code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from alis.errors import InputError
from alis.models import generator, model_folder
from alis.models.cost import generator_cost

CARD = """---
library_name: alis
pipeline_tag: unconditional-image-generation
tags:
- alis
- gan
- panorama
- landscape
---

# {title}

A generator of endless landscape panoramas, by the method of
[Aligning Latent and Image Spaces to Connect the Unconnectable](https://arxiv.org/abs/2104.06954).

| | |
|---|---|
| frame | {resolution} × {resolution} pixels, {grid_size} patches |
| anchors | {anchor_patches} patches apart |
| parameters | {num_parameters:,} |
| compute | {gflop:.1f} GFLOP per frame |
| half precision | {half} |

```python
import alis

g = alis.Generator.from_pretrained("{name}")
tile = alis.Panorama(g, seed=7).tile(0)  # uint8; any integer
```

Files: `config.json` and `model.safetensors` (the averaged generator).
"""


class Generator(generator.Generator, ModelHubMixin):
    """The generator (`alis.models.generator.Generator`) with the Hub's `from_pretrained` and `push_to_hub`."""

    def _save_pretrained(self, save_directory: Path) -> None:
        model_folder.save(save_directory, self)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The model card of this generator; the keyword `repo_id` names it."""
        config = self.config
        name = str(kwargs.get("repo_id") or "user/name")
        cost = generator_cost(config)
        half = f"from {config.half_from} rows up" if config.half_from else "none"
        return ModelCard(
            CARD.format(
                title=name.rpartition("/")[2] if name != "user/name" else "ALIS",
                name=name,
                half=half,
                anchor_patches=config.anchor_patches,
                num_parameters=cost.num_parameters,
                gflop=cost.flops / 1e9,
                **config.model_dump(include={"resolution", "grid_size"}),
            )
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str = "cpu",
        **_: object,
    ) -> Generator:
        if Path(model_id).is_dir():
            return load(model_id, device=device)
        try:
            files = [
                hf_hub_download(
                    model_id,
                    name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    token=token,
                    local_files_only=local_files_only,
                )
                for name in (model_folder.CONFIG, model_folder.MODEL)
            ]
        except (EntryNotFoundError, LocalEntryNotFoundError) as error:
            raise InputError(f"{model_id}: {error}", hint="it needs config.json and model.safetensors") from None
        except HfHubHTTPError as error:
            raise InputError(f"{model_id}: {error}", hint="check the name, and `hf auth login` if private") from None
        return load(Path(files[0]).parent, device=device)


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Generator:
    """Load the generator of a model folder, of a run's newest snapshot, or of `demo`; eval mode, no gradients.

    Raises:
        InputError: no such folder, or weights that are damaged or belong to another model.
        ConfigError: a wrong setting in config.json.
    """
    return model_folder.load_as(Generator, path, device=device)


def publish(generator: Generator, repository: str, *, private: bool, dry_run: bool = False) -> str:
    """Upload a generator to the Hub, or write the files to a folder of that name; return the URL or folder.

    Raises:
        InputError: the Hub refuses (not logged in, no right to the name).
    """
    if dry_run:
        generator.save_pretrained(repository, model_card_kwargs={"repo_id": repository})
        return repository
    try:
        return str(
            generator.push_to_hub(
                repository, private=private, commit_message="Add generator", model_card_kwargs={"repo_id": repository}
            )
        )
    except (HfHubHTTPError, ValueError, OSError) as error:
        raise InputError(
            f"{repository}: {str(error).splitlines()[0]}", hint="log in with `hf auth login`; name it user/name"
        ) from None


def publish_space(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to the Hub as a static Space; return its URL.

    Raises:
        InputError: the Hub refuses (not logged in, no right to the name).
    """
    api = HfApi()
    try:
        url = api.create_repo(repository, repo_type="space", space_sdk="static", private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=url.repo_id, repo_type="space", commit_message="Add the page")
    except (HfHubHTTPError, ValueError, OSError) as error:
        raise InputError(
            f"{repository}: {str(error).splitlines()[0]}", hint="log in with `hf auth login`; name it user/name"
        ) from None
    return str(url)
