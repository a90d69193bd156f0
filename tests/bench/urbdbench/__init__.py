"""The benchmark of urbd and its peers.

main        options, the order of things
lab         the cluster and its images
targets     what is measured: urbd and the peers, each behind one interface
workloads   what is asked of them
client      runs fio, or a target's own client, and says what came of it
procfs      what the machine says of processes: CPU, memory, threads, switches
matrix      every workload on every target, in turns
scale       beside the matrix: memory, threads, time to map, flat cost, fairness, reading figures
scrape      reads a daemon's figures again and again
aims        what the project wants to reach, and whether it does
report      Markdown and JSON; plot: SVG
"""
