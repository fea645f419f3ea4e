import perfusion_registry as perf

project = perf.open("tea-party")
project.sync()  # fetches what the lockfile names; locks first what is not locked

composer = project.composer()  # loads the base: keep it
for picture in composer.render("A teddy* sailing in a teapot*", seeds=range(2), steps=2):
    picture.save(f"{picture.seed}.png")

for row in project.concepts().concepts:
    print(row.name, row.version, row.state)
assert project.verify().whole

project.add_release("studio/boat", ">=1", registry="../studio")  # the address is written down as `studio`
assert not project.lock(check=True).up_to_date
print(project.lock().changes)
project.sync()
project.vendor("vendored")  # a registry in a folder, with a lockfile of its own

elsewhere = perf.sync_lockfile("vendored/perfusion.lock", "elsewhere")
assert elsewhere.verify().whole

composition = composer.compose("a teddy*{bias=.5} on a teapot*")
gates = {"teddy": perf.Gate(bias=0.5, key_lock="global")}
composition = composer.compose("a teddy* on a teapot*", gates=gates)
scene = composer.compose(scene="sailing")

for token in composer.explain("a teddy* on a teapot*").tokens:
    print(token.word, token.gate)

record = perf.read_record("0.png")
print(record.seed, record.request.steps, [concept.name for concept in record.composition.concepts])
again = perf.redraw("0.png", folder="tea-party")  # to the pixel; no folder where the base is Storybook

from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

pipe = StableDiffusionImg2ImgPipeline.from_pretrained("base", requires_safety_checker=False)
photo = Image.open("0.png").convert("RGB")
concepts = perf.load_concepts(pipe, "tea-party")  # a folder with a lockfile

with perf.composed(pipe, "A teddy* sailing in a teapot*", concepts, negative_prompt="fog") as call:
    image = pipe(**call, image=photo, strength=0.6, num_inference_steps=4).images[0]

try:
    composer.render("a teddi* in the snow")
except perf.PerfError as error:
    print(error.what, error.where, error.hint)
