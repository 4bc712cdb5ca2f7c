"""A run as one file: what the host told the monitor, and what the monitor said. It is shown again without the host.

    with Recorder(monitor, model, tokenizer, "dog.safetensors"), monitor.attach(model):
        model.generate(**inputs, max_new_tokens=40)

    recording = Recording.load("dog.safetensors")
    for event in Replay(recording, pack).events(): ...        # as they were, with the pack that scored them
    for event in rescored(recording, Monitor(other)): ...     # what another pack says of the same rows

recording   the file: written, read, checked
about       what is said of the run: host, pack, settings, versions, counters
calls       what the host told, call by call: tokens, masks, the site's rows
seen        events as arrays
words       what the tokenizer said of the run's tokens
fields      records as JSON and back, every field checked
recorder    makes a recording while a host is watched
replay      events out of a recording: as they were, or scored again
differing   where two recordings part
"""
