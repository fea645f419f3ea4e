import perfusion_registry as perf

project = perf.open()  # the folder's perfusion.toml and perfusion.lock
project.build()
for picture in project.composer().render("a bunny* in the snow", seeds=range(4)):
    picture.save(f"{picture.seed}.png")
