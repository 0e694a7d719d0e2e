"""Job files that start workers of a sweep: a SLURM array, GNU parallel, Kubernetes.

A worker needs nothing but the sweep's directory, so that each file only starts some.
"""

import json
import shlex
from pathlib import Path
from string import Template

SLURM = Template("""\
#!/bin/bash
# Workers of a sweep as an array of SLURM; submit it with: sbatch slurm.sh
#SBATCH --job-name=innerloop-sweep
#SBATCH --array=1-$workers
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
# Two minutes before the time is up the run at hand is saved and released, for another worker.
# A GPU for each: #SBATCH --gpus-per-task=1
# Activate the environment with innerloop here, if it is not on the PATH.
set -euo pipefail
exec srun innerloop sweep work $directory
""")
PARALLEL = Template("""\
#!/bin/bash
# Workers of a sweep by GNU parallel, all on this machine; on others too: --sshlogin HOSTS.
# Activate the environment with innerloop here, if it is not on the PATH.
set -euo pipefail
exec parallel --quote -N0 --jobs $workers --line-buffer --tag innerloop sweep work $directory \\
  ::: {1..$workers}
""")
KUBERNETES = Template("""\
# Workers of a sweep as a job of Kubernetes; start it with: kubectl apply -f kubernetes.yaml
# Name an image with innerloop and the claim of a volume that all nodes see; the sweep's directory
# is where that volume is mounted.
apiVersion: batch/v1
kind: Job
metadata:
  name: innerloop-sweep
spec:
  completions: $workers
  parallelism: $workers
  completionMode: Indexed
  backoffLimit: 100
  template:
    spec:
      restartPolicy: Never
      # Within this time a worker that is told to end saves and releases its run.
      terminationGracePeriodSeconds: 120
      containers:
        - name: worker
          image: IMAGE
          command: ["innerloop", "sweep", "work", $mounted]
          resources:
            requests: {cpu: "1", memory: 4Gi}
            limits: {memory: 4Gi}
          volumeMounts:
            - name: sweep
              mountPath: $mounted
      volumes:
        - name: sweep
          persistentVolumeClaim:
            claimName: CLAIM
""")
FILES = {"slurm.sh": SLURM, "parallel.sh": PARALLEL, "kubernetes.yaml": KUBERNETES}


def job_files(directory: Path, workers: int) -> dict[str, str]:
    """The files by their names.

    Args:
        directory: of the sweep, as the workers see it.
        workers: how many are started.
    """
    words = {
        "directory": shlex.quote(str(directory)),
        "mounted": json.dumps(str(directory)),  # a text of JSON is one of YAML
        "workers": str(workers),
    }
    return {name: template.substitute(words) for name, template in FILES.items()}
