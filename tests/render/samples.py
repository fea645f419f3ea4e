"""Values that the tests of rendering share."""

from PIL import Image

from perfusion_registry.compose.composition import ComposedBase, ComposedConcept, Composition
from perfusion_registry.methods.perfusion.options import DrawOptions
from perfusion_registry.render.metadata import RenderRecord
from perfusion_registry.render.request import RenderRequest


def picture(colour=(200, 120, 40), size=(64, 64)) -> Image.Image:
    image = Image.new("RGB", size, colour)
    image.putpixel((3, 5), (1, 2, 3))
    return image


def composition(prompt="A teddy* sailing") -> Composition:
    return Composition(
        prompt=prompt,
        base=ComposedBase(repo="storybook", digest="d" * 64, family="f" * 64),
        covariance="c" * 64,
        concepts=(
            ComposedConcept(
                name="teddy",
                version="1.0.0",
                sha256="a" * 64,
                recipe_digest="b" * 64,
                supercategory="teddy",
                positions=(2,),
                render=DrawOptions(bias=0.65, temperature=0.15, key_lock="local"),
            ),
        ),
    )


def render_record(prompt="A teddy* sailing", seeds=(3,)) -> RenderRecord:
    return RenderRecord(
        composition=composition(prompt),
        request=RenderRequest(seeds=seeds, width=64, height=64),
        device="cpu",
        dtype="float32",
        compute_dtype="float32",
        perf="0.1.0",
        libraries={"torch": "2"},
    )
